"""`python -m conductor` is `conductor serve`."""

from conductor.commands.serve import serve

if __name__ == "__main__":
    serve(prog_name="python -m conductor")
