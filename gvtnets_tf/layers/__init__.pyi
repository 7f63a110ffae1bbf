from .attention import GlobalAttention as GlobalAttention
from .attention import merge_summaries as merge_summaries
from .blocks import DenseBlock as DenseBlock
from .blocks import ResidualBlock as ResidualBlock
from .transformers import GVTO as GVTO
from .transformers import GlobalDownTransformer as GlobalDownTransformer
from .transformers import GlobalSameTransformer as GlobalSameTransformer
from .transformers import GlobalUpTransformer as GlobalUpTransformer
