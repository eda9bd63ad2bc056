"""The steps, pure: frames in, frames and counts out. They know no file, no store and no Prefect."""
