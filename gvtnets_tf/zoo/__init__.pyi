from .card import Card as Card
from .conversion import convert_fnet as convert_fnet
from .conversion import convert_tf1 as convert_tf1
from .fetching import fetch as fetch
from .registry import read_registry as read_registry
