from .files import predict as predict
from .loading import load as load
from .predictor import Predictor as Predictor
