"""``python -m snnlab.data.speech IN_FOLDER OUT.h5``: recordings -> spikes in SHD's layout."""

from snnlab.data.speech.convert import PROG, main
from snnlab.errors import run_command

if __name__ == "__main__":
    run_command(main, PROG)
