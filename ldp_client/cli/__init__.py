"""The hospital's commands, one file per noun; each is loaded when it is asked for."""
