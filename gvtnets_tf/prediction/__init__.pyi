from .files import predict as predict
from .loading import load as load
from .many import predict_many as predict_many
from .predictor import Predictor as Predictor
