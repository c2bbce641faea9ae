"""Fine-tune, evaluate and compare pretrained Chinese models on machine reading comprehension."""

import sys

from experiment.cli import main

if __name__ == "__main__":
    sys.exit(main())
