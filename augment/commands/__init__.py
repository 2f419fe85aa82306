"""What the commands do, once their options are read: whole jobs on folders, with progress on the terminal."""
