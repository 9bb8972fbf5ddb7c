"""The operator's page: rendered here, without a build, and without a script of its own inside."""
