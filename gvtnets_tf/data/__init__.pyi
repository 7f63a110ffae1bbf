from .augmentation import Intensity as Intensity
from .multiscale import crop_multiscale as crop_multiscale
from .pair_checks import check_pairs as check_pairs
from .sources import find as find
