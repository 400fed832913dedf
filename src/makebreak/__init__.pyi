from . import settings as settings
from .api import Measurement as Measurement
from .api import Model as Model
from .api import Requests as Requests
from .api import Result as Result
from .api import Subject as Subject
from .api import align as align
from .api import attack as attack
from .api import attack_method as attack_method
from .api import compare as compare
from .api import evaluate as evaluate
from .api import fine_tune as fine_tune
from .api import inspect as inspect
from .api import landscape as landscape
from .api import load_world as load_world
from .api import measure as measure
from .api import mitigation as mitigation
from .api import monitor as monitor
from .api import objective as objective
from .api import open_model as open_model
from .api import organism as organism
from .api import organisms as organisms
from .api import pretrain as pretrain
from .api import score as score
from .api import zoo as zoo

__version__: str
