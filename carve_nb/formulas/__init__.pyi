from .clutter import Complexity as Complexity
from .clutter import complexity as complexity
from .clutter import entropy as entropy
from .clutter import texture as texture
from .clutter import color as color
from .agreement import rank_patches as rank_patches
from .agreement import layer_agreement as layer_agreement
from .product import contrast as contrast
from .product import cost as cost
from .product import check_maps as check_maps
from .variance import own_share as own_share
from .variance import variance_parts as variance_parts
from .threshold import Region as Region
from .threshold import top_mask as top_mask
from .threshold import regions as regions
from .algorithm import step_weights as step_weights
from .algorithm import fuse_maps as fuse_maps
from .algorithm import fuse_contrast as fuse_contrast
from .algorithm import algorithm_1 as algorithm_1

__all__: list[str]
