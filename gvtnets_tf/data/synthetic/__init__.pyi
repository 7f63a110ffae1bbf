from .cells import simulate_cells as simulate_cells
from .cells import simulate_pair as simulate_pair
from .cells import simulate_surface as simulate_surface
from .optics import add_camera_noise as add_camera_noise
from .optics import blur_with_psf as blur_with_psf
from .optics import simulate_transmitted_light as simulate_transmitted_light
