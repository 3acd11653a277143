"""The presets: whole configs with a name, each with its source or its purpose."""

from __future__ import annotations

import dataclasses

from labkit.config import (
    Config,
    DataConfig,
    KLConfig,
    ModelConfig,
    SceneConfig,
    TeacherForcingConfig,
    TrainingConfig,
)
from labkit.errors import ConfigError

COURSE = Config(
    data=DataConfig(windows="first"),
    kl=KLConfig(schedule="cyclical", max_weight=1.0, cycles=3, ratio=2.0, cycle_start="epoch"),
    teacher_forcing=TeacherForcingConfig(),
    model=ModelConfig(backbone="vgg64"),
)
"""The course's sample code: vgg64, batch norm, g 128, z 64, rnn 256, batch 12, 300 x 600.

Two settings are not the sample code's defaults, because the coursework asks for both methods. KL
annealing is cyclical; the default there is monotonic (no `--kl_anneal_cyclical`). The ratio of
teacher forcing falls by 0.01 each epoch; the default there is `tfr_decay_step` 0, so it never
falls. For the sample code's own defaults add `--kl.schedule monotonic --teacher-forcing.decay-step
0`. For one ramp over the first quarter of the training, as in several public solutions, add
`--kl.schedule monotonic --kl.ratio 4`. A cycle begins with a whole epoch, also where the cycles do
not divide the epochs, so its first weight is 0."""

SPEC = dataclasses.replace(
    COURSE, model=dataclasses.replace(COURSE.model, encoding_size=64, latent_size=128)
)
"""As COURSE, with the sizes of the course's written specification: g 64, z 128."""

REPORT = dataclasses.replace(COURSE, kl=dataclasses.replace(COURSE.kl, cycles=4))
"""As COURSE, with the settings of the report this lab started from: 4 cycles, ratio 2."""

SVG = Config(
    data=DataConfig(condition="none", windows="all"),
    kl=KLConfig(schedule="constant", max_weight=1e-4),
    teacher_forcing=TeacherForcingConfig(decay_step=0.0),
    model=ModelConfig(backbone="vgg64", predictor_norm="none", prior="learned", skip="svg"),
    training=TrainingConfig(batch_size=100),
)
"""SVG-LP (Denton & Fergus 2018) with the authors' settings for this data set: no condition, a
learned prior, always teacher forced, beta 1e-4, batch 100. `--model.prior fixed` is SVG-FP, and
`--model.backbone dcgan64` its smaller network."""

LAYER = Config(
    model=ModelConfig(
        backbone="dcgan64",
        width=16,
        norm="group",
        encoding_size=128,
        latent_size=16,
        hidden_size=128,
        predictor="convlstm",
        predictor_layers=1,
        predictor_norm="none",
        skip="previous",
        conditioning="film",
        posterior_condition=True,
        output="layer",
        observation="optimal",
        normalise_condition=True,
    ),
    kl=KLConfig(schedule="cyclical", max_weight=1.0, cycles=3, ratio=2.0),
    teacher_forcing=TeacherForcingConfig(start=1.0, decay_step=1.0),
    training=TrainingConfig(
        epochs=20,
        updates_per_epoch=40,
        batch_size=8,
        learning_rate=0.002,
        learning_rate_schedule="cosine",
        gradient_clip=1.0,
        ema_decay=0.98,
        validation_clips=64,
        validate_every=4,
    ),
)
"""The demo of earlier versions. Its output `layer` warps the previous frame, and moves a layer that
is cut out of the last context frame. Teacher forcing ends after the first of 20 epochs: as long as
true frames are fed, moving the last one is enough, and the layer, which only a long horizon needs,
does not learn where to go."""

DEMO = dataclasses.replace(
    LAYER,
    model=dataclasses.replace(
        LAYER.model,
        width=8,
        map_size=32,
        places=True,
        output="scene",
        scene=SceneConfig(motion_start=True, picture_start=True, pictures=10),
    ),
    teacher_forcing=TeacherForcingConfig(start=0.0),
    training=dataclasses.replace(
        LAYER.training, arm_updates=3200, updates_per_epoch=48, learning_rate=0.003
    ),
)
"""Minutes on 2 CPU cores. The output `scene` composes a frame of layers instead of warping the last
one. Half of LAYER's width, and no teacher forcing, so that every layer is needed from the first
update on. The arm's picture is trained first, alone. All together take no more CPU time than the
800 updates of LAYER (`benchmarks/studies/demo_cost.py`). What it reaches and what it assumes:
`labkit/model/README.md`."""

BEST = dataclasses.replace(
    DEMO,
    training=dataclasses.replace(
        DEMO.training, arm_updates=10000, epochs=40, updates_per_epoch=100
    ),
)
"""DEMO with four times its updates, of the arm's picture alone three times, less than an hour on 2
CPU cores. What is pushed comes after that, in a second training that begins with these weights. Its
command, and what both reach: `labkit/model/README.md`."""

LATENT = dataclasses.replace(
    LAYER,
    model=dataclasses.replace(LAYER.model, prior="learned", latent_levels=3),
    kl=KLConfig(schedule="constant", max_weight=1.0, hybrid=0.3),
    training=dataclasses.replace(LAYER.training, updates_per_epoch=100, validate_every=5),
)
"""LAYER with a latent that is used: latent maps besides the vector, a learned prior, and 0.3 of the
clips of a batch with z from that prior, so that samples stay good. beta is 1, the ELBO itself, from
the first update on. Two and a half times LAYER's updates, each a third as long again. What it
reaches and what not stands in `labkit/model/README.md`."""

FREE = dataclasses.replace(
    DEMO,
    data=DataConfig(condition="none"),
    model=dataclasses.replace(
        DEMO.model,
        latent_size=8,
        prior="learned",
        posterior_log_variance_start=-6.0,
        posterior_norm="batch",
        conditioning="input",
        posterior_condition=False,
        normalise_condition=False,
        places=False,
        scene=SceneConfig(),
    ),
    kl=KLConfig(schedule="constant", max_weight=1.0, wait=0.5, anneal_prior=False),
    training=dataclasses.replace(
        DEMO.training,
        arm_updates=0,
        epochs=24,
        updates_per_epoch=15,
        schedule_by="update",
        batch_size=4,
        precision="fp32",
        validation_clips=16,
        validate_every=4,
        keep="last",
    ),
)
"""No condition: the task of SVG, in which only z_t can tell how the arm moves. DEMO's network, but
with three pictures of the arm, which are not trained beforehand, and with 8 latents that are used:
the posterior's mean is normalised and starts with little noise, the KL weight is 0 for half of the
training, and a learned prior is fitted to the posterior meanwhile. The weights of the end are kept:
a sample of a used z is one of many futures, and PSNR prefers a blurred mean of them. Minutes on 2
CPU cores. What it reaches: `labkit/model/README.md`; what annealing does to it:
`docs/evaluation.md`."""

SMOKE = dataclasses.replace(
    LAYER,
    model=dataclasses.replace(
        LAYER.model, width=4, encoding_size=16, latent_size=4, hidden_size=16, map_size=8
    ),
    training=dataclasses.replace(
        LAYER.training,
        epochs=2,
        updates_per_epoch=4,
        batch_size=4,
        validation_clips=4,
        validate_every=1,
        precision="fp32",
    ),
)
"""Seconds: for tests and for a first look; in fp32, so that every CPU finds the same."""

PRESETS: dict[str, Config] = {
    "demo": DEMO,
    "best": BEST,
    "layer": LAYER,
    "course": COURSE,
    "spec": SPEC,
    "report": REPORT,
    "svg": SVG,
    "latent": LATENT,
    "free": FREE,
    "smoke": SMOKE,
}
"""The presets by name."""


def preset(name: str) -> Config:
    """The preset of that name.

    Raises:
        ConfigError: there is no such preset; the message lists those there are.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]
