from .files import predict as predict
from .loading import load as load
from .options import PredictionOptions as PredictionOptions
from .predictor import Predictor as Predictor
from .time_series import predict_series as predict_series
