from .wells import Well as Well
from .wells import find_wells as find_wells
