"""Two masters with two workers each over one PostgreSQL, and somebody who kills workers."""
