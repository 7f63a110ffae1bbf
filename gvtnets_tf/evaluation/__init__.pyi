from . import metrics as metrics
from . import plots as plots
from .report import Report as Report
from .scoring import evaluate as evaluate
from .statistics import paired_t_test as paired_t_test
from .statistics import summarize as summarize
