from .fitting import train as train
from .recipe import Recipe as Recipe
