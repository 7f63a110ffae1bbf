from .card import Card as Card
from .conversion import convert_fnet as convert_fnet
from .conversion import convert_tf1 as convert_tf1
from .fetching import fetch as fetch
from .model_folder import read_model as read_model
from .model_folder import write_model as write_model
from .registry import read_registry as read_registry
