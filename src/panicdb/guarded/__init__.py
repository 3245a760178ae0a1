"""The child process that runs migrations. It needs only the application's own Alembic and SQLAlchemy."""
