"""An event file as torch.utils.tensorboard writes it, with known values and a frozen clock."""
import tempfile, time
from pathlib import Path

WALL = 1700000000.5


def make(out: Path):
    import numpy as np
    from torch.utils.tensorboard import SummaryWriter

    real, time.time = time.time, lambda: WALL
    try:
        with tempfile.TemporaryDirectory() as folder:
            w = SummaryWriter(folder, purge_step=3)
            w.add_scalar("loss", 0.25, 3, walltime=WALL)
            w.add_scalar("lr", 8e-3, 1 << 40, walltime=WALL)
            picture = (np.arange(5 * 7 * 3).reshape(5, 7, 3) * 2).astype("uint8")
            w.add_image("samples/0", picture, 4, walltime=WALL, dataformats="HWC")
            w.close()
            (file,) = Path(folder).iterdir()
            (out / "golden.tfevents").write_bytes(file.read_bytes())
    finally:
        time.time = real
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    events = LegacyEventFileLoader(str(out / "golden.tfevents")).Load()
    image = next(v.image for e in events for v in e.summary.value if v.HasField("image"))
    (out / "picture.png").write_bytes(image.encoded_image_string)
