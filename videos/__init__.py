"""Videos of adaptation: run episodes, film them before | after side by side, and say in a JSON what they show.

    episode = run_episode(family, goal, act, np.random.default_rng(seed))
    record(family, goal, [("before adaptation", episode), ...], "run/videos/adaptation.mp4")

Pictures come from OpenGL through EGL where that works, and from ray casting on the CPU everywhere else; neither needs
a display or an environment variable. Gymnasium environments from elsewhere are filmed by `record_environments` with
their own pictures. Needs numpy, mujoco, Pillow, imageio-ffmpeg and `metarl.envs`; a policy is any
callable from observation to action.
"""

from .camera import View, camera_tracks
from .compose import Caption, compose, side_by_side
from .egl import EglUnavailableError
from .encode import mp4_writer, write_gif
from .environment_recorder import ActPanel, check_pictures, record_environments
from .episode import Act, Episode, run_episode
from .film_files import Recording
from .poster import poster_jpeg
from .recorder import Panel, record
from .render import Backend, Renderer, make_renderer
from .scene import Scene, build_scene, root_positions

__all__ = [
    "Act",
    "ActPanel",
    "Backend",
    "Caption",
    "EglUnavailableError",
    "Episode",
    "Panel",
    "Recording",
    "Renderer",
    "Scene",
    "View",
    "build_scene",
    "camera_tracks",
    "check_pictures",
    "compose",
    "make_renderer",
    "mp4_writer",
    "poster_jpeg",
    "record",
    "record_environments",
    "root_positions",
    "run_episode",
    "side_by_side",
    "write_gif",
]
