"""Classify events (event-digits, spoken-digits, N-MNIST, SHD) with a recurrent spiking network.

Without --dataset the embedded event-digits are used, with defaults of their own: --data_length
60 --batch_size 64 --n_layer 1 --n_rec 256 --epochs 14 --lr 0.002 --lr_schedule cosine
--aug_shift 1.
"""

from snnlab.errors import run_command

PROG = "task-image-classification.py"


def main() -> int:
    from snnlab.experiment import command
    from snnlab.problems.image_classification import ImageClassification, adapt, build

    return command(ImageClassification, build, prog=PROG, description=__doc__, adapt=adapt)


if __name__ == "__main__":
    run_command(main, PROG)
