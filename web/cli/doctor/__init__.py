"""``sessiond doctor``: what it checks, and how it says what it has found."""
