"""A scene in layers: the table of the context frames, and over it a learned picture of the arm.

The output `scene` composes a frame from back to front:

    table   once a clip: the last context frame; where the arm hides it, the first context frame;
            where the arm hides that too, ground that a small network paints
    light   at every step: table * exp(light), because the arm throws a shadow
    arm     one learned picture with transparency for all clips, placed by the condition, in the
            light of the clip
    fresh   pixels painted by the decoder, under a mask

Nothing is read from a predicted frame. So nothing blurs, however far the horizon is. The output
assumes one moving arm, a fixed camera, and a table that does not change except in its light: the
picture of the arm is the same in every clip. What the arm pushes stays where it was, unless there
is a `Pusher` (`labkit.model.pusher`), which moves parts of the table along with the arm.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.config import SceneConfig
from labkit.model.output import Maps, Output, SourceWeights
from labkit.model.pusher import ArmMotion, PushCandidates, Pusher

PICTURE_RATE = 10.0
"""The arm's picture is stored divided by this. Adam's steps are all of about the same size, so it
learns this many times as fast."""
PLACE_RATE = 2.5
"""The same for what places the picture."""
TRANSPARENT = -2.0
"""Logit of the picture's opacity before training: visible enough to get a gradient."""
LIGHT = 0.7
"""Largest absolute log of the gain that changes the table's light."""
UNPAINTED = -4.0
"""Logit of the fresh pixels' mask before training: nothing is painted."""
PUSHED = 0.5
"""Pixels by which a pixel of the table must be displaced to count as pushed."""
LIGHT_STATISTICS = 9
"""Numbers that describe a clip's light: mean, standard deviation and maximum of each channel of
its last context frame."""
MOMENTS = 6
"""Numbers that describe where the arm hides the table: area, middle (x, y), two variances and the
covariance."""


def light_statistics(frames: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N 9"]:
    """Mean, standard deviation and maximum of each channel, shifted to lie around 0."""
    pixels = frames.flatten(2)
    return torch.cat([pixels.mean(2), pixels.std(2), pixels.amax(2)], dim=1) - 0.5


def moments(mask: Float[Tensor, "N 1 H W"]) -> Float[Tensor, "N 6"]:
    """Area of a mask, its middle (x, y), its variances and its covariance; lengths in half
    frames."""
    weight = mask[:, 0]
    height, width = weight.shape[-2:]
    x = torch.linspace(-1, 1, width, device=mask.device)
    y = torch.linspace(-1, 1, height, device=mask.device)
    area = weight.mean(dim=(1, 2))
    across, down = weight.mean(dim=1), weight.mean(dim=2)  # (N, W), (N, H)
    norm = area.clamp_min(1e-3)
    mean_x, mean_y = (across * x).mean(1) / norm, (down * y).mean(1) / norm
    var_x = (across * x**2).mean(1) / norm - mean_x**2
    var_y = (down * y**2).mean(1) / norm - mean_y**2
    both = torch.einsum("nhw,h,w->n", weight, y, x) / (height * width) / norm
    return torch.stack([area, mean_x, mean_y, var_x, var_y, both - mean_x * mean_y], dim=1)


class ArmPicture(nn.Module):
    """The arm: a learned RGBA picture, larger than a frame, read where a placement says.

    A frame's pixel (x, y), in half frames from its middle, reads the picture at p(x, y): an affine
    map, and a bend, which is a polynomial in the coordinates that the affine map gives. Both are
    made from the numbers known at each step. With several pictures, a step reads a weighted sum of
    them: the first one has weight 1, the others have weights that the step chooses (a gripper that
    closes, a side that the light falls on).
    """

    def __init__(
        self,
        known_size: int,
        frame_size: int,
        pictures: int,
        *,
        bend: bool,
        light: bool,
        hidden: int = 48,
    ) -> None:
        """
        Args:
            known_size: numbers known at each step.
            frame_size: S; the picture is 2 S high and S wide.
            pictures: how many are summed.
            bend: bend the picture besides the affine map.
            light: multiply each colour by a gain made from the clip's light.
            hidden: units of the network that places the picture.
        """
        super().__init__()
        start = torch.randn(pictures, 4, 2 * frame_size, frame_size) * (0.03 / PICTURE_RATE)
        start[0, :3] -= 1 / PICTURE_RATE
        start[0, 3] += TRANSPARENT / 3 / PICTURE_RATE
        self.picture = nn.Parameter(start)
        self.hidden = nn.Sequential(
            nn.Linear(known_size, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.bend = 6 if bend else 0
        # Most of it is linear: an arm that goes twice as far is shifted twice as far.
        self.linear = nn.Linear(known_size, 6, bias=False)
        self.place = nn.Linear(hidden, 6 + self.bend)
        self.gain = nn.Linear(LIGHT_STATISTICS, 3) if light else None
        for layer in filter(None, (self.linear, self.place, self.gain)):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        read = hidden + (LIGHT_STATISTICS if light else 0)
        self.mix = nn.Linear(read, pictures - 1) if pictures > 1 else None

    @torch.no_grad()
    def follow(self, middles: Float[Tensor, "2 k"]) -> None:
        """Shifts the picture, before training, as the arm is shifted.

        Args:
            middles: how far the arm's middle (x, y) is shifted, in half frames, by 1 of each of
                the numbers known.
        """
        # A picture that is shifted by s is read at x - s: x_0 and y_0 in `grid`.
        self.linear.weight[2] = -middles[0] / PLACE_RATE
        self.linear.weight[5] = -middles[1] / PLACE_RATE

    @torch.no_grad()
    def paint(
        self, colour: Float[Tensor, "3 height width"], opacity: Float[Tensor, "1 height width"]
    ) -> None:
        """Paints the first picture, before training.

        Args:
            colour: of the size of the picture, in [0, 1].
            opacity: in [0, 1]. Neither may be 0 or 1, which no gradient could change.
        """
        self.picture[0, :3] = colour.logit() / PICTURE_RATE
        self.picture[0, 3:] = opacity.logit() / 3 / PICTURE_RATE

    def forward(
        self, known: Float[Tensor, "N k"], light: Float[Tensor, "N 9"], side: int
    ) -> tuple[Float[Tensor, "N 3 S S"], Float[Tensor, "N 1 S S"]]:
        """Colour and opacity.

        Args:
            known: of each step.
            light: `light_statistics` of its clip.
            side: S, of the frame.
        """
        hidden = self.hidden(known)
        return self.read(self.grid(known, hidden, side), hidden, light)

    def read(
        self,
        grid: Float[Tensor, "N S S 2"],
        hidden: Float[Tensor, "N h"],
        light: Float[Tensor, "N 9"],
    ) -> tuple[Float[Tensor, "N 3 S S"], Float[Tensor, "N 1 S S"]]:
        """As `forward`, at the places that `grid` gives."""
        pictures = PICTURE_RATE * self.picture
        if self.mix is None:
            picture = pictures.expand(len(grid), -1, -1, -1)
        else:
            # P = P_0 + sum_k w_k P_k
            weights = self.mix(hidden if self.gain is None else torch.cat([hidden, light], dim=1))
            weights = torch.cat([torch.ones_like(weights[:, :1]), weights], dim=1)
            picture = (weights @ pictures.flatten(1)).unflatten(1, pictures.shape[1:])
        read = F.grid_sample(picture, grid, align_corners=True, padding_mode="border")
        colour = read[:, :3].sigmoid()
        if self.gain is not None:
            colour = colour * (PLACE_RATE * self.gain(light)).exp()[:, :, None, None]
        return colour, (3 * read[:, 3:]).sigmoid()

    def grid(
        self, known: Float[Tensor, "N k"], hidden: Float[Tensor, "N h"], side: int
    ) -> Float[Tensor, "N S S 2"]:
        """Where each pixel reads the picture: from -1 to 1 between its outer pixels' centres."""
        place = PLACE_RATE * self.place(hidden)
        affine = self.affine(known, place)
        a, b, x0, c, d, y0 = (each[:, None, None] for each in affine.unbind(1))
        line = torch.linspace(-1, 1, side, device=known.device)
        y, x = torch.meshgrid(line, line, indexing="ij")
        # u = 0.9 ((1 + a) x + b y + x_0),  v = 0.5 (c x + (1 + d) y + y_0)
        u = 0.9 * ((1 + a) * x + b * y + x0)
        v = 0.5 * (c * x + (1 + d) * y + y0)
        if self.bend:
            e, f, g, h, i, j = (each[:, None, None] for each in place[:, 6:].unbind(1))
            # u' = u + 1/2 (e u v + v^2 (f + g v + h u)),  v' = v + 1/2 v^2 (i + j v)
            vv = v * v
            u, v = u + 0.5 * (e * u * v + vv * (f + g * v + h * u)), v + 0.5 * vv * (i + j * v)
        return torch.stack([u, v], dim=-1)

    def affine(
        self, known: Float[Tensor, "N k"], place: Float[Tensor, "N _"]
    ) -> Float[Tensor, "N 6"]:
        """a, b, x_0, c, d, y_0 of `grid`."""
        return PLACE_RATE * self.linear(known) + place[:, :6]

    def motion(
        self,
        before: Float[Tensor, "N k"],
        after: Float[Tensor, "N k"],
        light: Float[Tensor, "N 9"],
        side: int,
    ) -> ArmMotion:
        """The arm's opacity before and after a step, and how each point of it has moved.

        Args:
            before, after: the numbers known at both steps.
            light: `light_statistics` of the clip.
            side: S, of the frame.
        """
        hidden_before, hidden_after = self.hidden(before), self.hidden(after)
        grid_before = self.grid(before, hidden_before, side)
        grid_after = self.grid(after, hidden_after, side)
        alpha_before = self.read(grid_before, hidden_before, light)[1]
        alpha_after = self.read(grid_after, hidden_after, light)[1]
        p_before, p_after = grid_before.permute(0, 3, 1, 2), grid_after.permute(0, 3, 1, 2)
        a, b, _, c, d, _ = self.affine(before, PLACE_RATE * self.place(hidden_before)).unbind(1)
        rows = torch.stack([0.9 * (1 + a), 0.9 * b, 0.5 * c, 0.5 * (1 + d)], dim=1)
        # p_before(x + v) = p_after(x): one step of Newton's method, v = J^-1 (p_after - p_before)
        # (`inv` would read whether it worked, and so wait for a GPU at each step)
        inverse = torch.linalg.inv_ex(rows.unflatten(1, (2, 2))).inverse
        v = torch.einsum("nij,njhw->nihw", inverse, p_after - p_before) * ((side - 1) / 2)
        return ArmMotion(alpha_before, alpha_after, p_after, v)


class Table(nn.Module):
    """The table of a clip, composed once from a context frame and the first one.

    A small U-Net over both frames finds where the arm hides the table in each of them, how to
    change the light of the last one (the arm's shadow lies on it), and what ground to paint where
    neither frame shows any.
    """

    def __init__(self, width: int, *, first: bool, ground: bool) -> None:
        """
        Args:
            width: channels at half of the frame's side.
            first: read the first context frame.
            ground: paint ground.
        """
        super().__init__()
        self.first, self.ground = first, ground
        w, colours = width, 6 if first else 3

        def down(a: int, b: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2))

        self.down = nn.ModuleList(
            [down(colours, w), down(w, 2 * w), down(2 * w, 2 * w), down(2 * w, 2 * w)]
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.LeakyReLU(0.2))
            for a, b in ((4 * w, 2 * w), (4 * w, 2 * w), (3 * w, w))
        )
        # where the arm hides each frame, gain of the light, ground
        self.parts = (1, int(first), 1, 3 if ground else 0)
        self.out = nn.Conv2d(w + colours, sum(self.parts), 3, padding=1)

    def forward(
        self, frames: Float[Tensor, "N 3 H W"], first: Float[Tensor, "N 3 H W"]
    ) -> tuple[Float[Tensor, "N 3 H W"], Float[Tensor, "N 1 H W"]]:
        """The table, and the share of each pixel of `frames` that the arm hides."""
        read = (torch.cat([frames, first], dim=1) if self.first else frames) - 0.5
        x, maps = read, []
        for stage in self.down:
            x = stage(x)
            maps.append(x)
        for stage, skip in zip(self.up, maps[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, size=skip.shape[-2:]), skip], dim=1))
        x = F.interpolate(x, size=frames.shape[-2:], mode="bilinear", align_corners=False)
        out = self.out(torch.cat([x, read], dim=1)).float()
        hidden, hidden_first, gain, ground = out.split(self.parts, dim=1)
        hidden = (hidden - 1).sigmoid()
        behind = ground.sigmoid() if self.ground else frames.mean(dim=(2, 3), keepdim=True)
        if self.first:
            hidden_first = (hidden_first - 1).sigmoid()
            behind = (1 - hidden_first) * first + hidden_first * behind
        lit = frames * (LIGHT * gain.tanh()).exp()
        return (1 - hidden) * lit + hidden * behind, hidden


class SceneOutput(Output):
    """The composed frame, see above. Each part can be switched off (`SceneConfig`)."""

    def __init__(
        self,
        scene: SceneConfig,
        encoding_size: int,
        condition_size: int,
        *,
        change_size: int,
        has_positions: bool,
        latent_size: int,
        frame_size: int,
        half_size: bool,
    ) -> None:
        """
        Args:
            scene: which parts there are.
            encoding_size: of g.
            condition_size: C.
            change_size: numbers of the condition's change since the last context frame.
            has_positions: the condition ends with the position of the end effector.
            latent_size: of z_t, which places the arm where there is no condition.
            frame_size: S.
            half_size: the decoder's map has half of the frame's side. Each of its places then
                holds four fresh pixels.
        """
        super().__init__()
        self.condition_size, self.half_size = condition_size, half_size
        self.has_positions = has_positions
        self.motion_start, self.picture_start = scene.motion_start, scene.picture_start
        self.lights = 1 if scene.table_light else 0
        self.in_channels = self.lights + 4 * (4 if half_size else 1)
        self.table = Table(scene.table_width, first=scene.first_frame, ground=scene.ground)
        self.arm = None
        if scene.arm:
            known_size = condition_size
            if not has_positions:
                # Nobody says where the arm was at first: it is read from the picture and from g.
                self.from_g = nn.Linear(encoding_size, scene.place_size)
                known_size = condition_size + change_size + MOMENTS + scene.place_size
                self.reads_latent = not condition_size
                known_size += latent_size if self.reads_latent else 0
            self.arm = ArmPicture(
                known_size, frame_size, scene.pictures, bend=scene.bend, light=scene.arm_light
            )
        self.pusher = None
        if scene.pusher and scene.arm and has_positions:
            self.pusher = Pusher(condition_size, scene.pusher_width)
            self.carries = True

    def prepare_reference(
        self,
        frames: Float[Tensor, "N 3 H W"],
        maps: Maps,
        first: Float[Tensor, "N 3 H W"] | None = None,
    ) -> Float[Tensor, "N _ H W"]:
        """The frame, the table, and where the arm hides it in that frame, 7 channels; with a
        pusher also the table as it is before anything is pushed, and the displacement, 5 more."""
        table, hidden = self.table(frames, frames if first is None else first)
        parts = [frames, table, hidden]
        if self.pusher is not None:
            parts += [table, torch.zeros_like(table[:, :2])]
        return torch.cat(parts, dim=1)

    def push(
        self,
        reference: Float[Tensor, "N _ H W"],
        conditioning: Float[Tensor, "N _"] | None,
        before: Float[Tensor, "N C"] | None,
    ) -> tuple[Float[Tensor, "N _ H W"], PushCandidates | None]:
        """As `Output.push`: the table, with what the arm has moved at this step."""
        if self.pusher is None or self.arm is None:
            return reference, None
        assert conditioning is not None
        assert before is not None
        frame, now, hidden, table, displaced = reference.split((3, 3, 1, 3, 2), dim=1)
        with torch.autocast(reference.device.type, enabled=False):
            condition, before = conditioning[:, : self.condition_size].float(), before.float()
            with torch.no_grad():  # the arm is learned from the arm alone
                light, side = light_statistics(frame), frame.shape[-1]
                arm = self.arm.motion(before, condition, light, side)
            known = torch.cat([condition, condition - before], dim=1)
            displaced, now, candidates = self.pusher(table, displaced, now, frame, arm, known)
        return torch.cat([frame, now, hidden, table, displaced], dim=1), candidates

    def compose(
        self,
        maps: Float[Tensor, "N _ h w"],
        g: Float[Tensor, "N g"],
        previous: Float[Tensor, "N 3 H W"],
        reference: Float[Tensor, "N _ H W"],
        conditioning: Float[Tensor, "N _"] | None = None,
    ) -> tuple[Float[Tensor, "N 3 H W"], SourceWeights]:
        """As `Output.compose`. `previous` is not read."""
        frame, table, hidden = reference[:, :7].split((3, 3, 1), dim=1)
        light, painted = maps.float().split((self.lights, self.in_channels - self.lights), dim=1)
        if self.half_size:
            painted = F.pixel_shuffle(painted, 2)
            if self.lights:
                light = F.interpolate(light, scale_factor=2, mode="bilinear")
        fresh, mask = painted.split((3, 1), dim=1)
        scene = table * (LIGHT * light.tanh()).exp() if self.lights else table
        m = (mask + UNPAINTED).sigmoid()
        weights = {"table": 1 - m}
        if self.arm is not None:
            with torch.autocast(g.device.type, enabled=False):
                known = self.known(g, hidden, conditioning)
                colour, alpha = self.arm(known, light_statistics(frame), frame.shape[-1])
            scene = (1 - alpha) * scene + alpha * colour
            weights = {"table": (1 - m) * (1 - alpha), "arm": (1 - m) * alpha}
        if self.pusher is not None:
            pushed = reference[:, -2:].norm(dim=1, keepdim=True) > PUSHED
            weights["pushed"] = weights["table"] * pushed
            weights["table"] = weights["table"] * ~pushed
        weights["fresh"] = m
        # x_t = (1 - m) ((1 - alpha) table + alpha arm) + m fresh
        return ((1 - m) * scene + m * fresh.sigmoid()).clamp(0, 1), weights

    def known(
        self,
        g: Float[Tensor, "N g"],
        hidden: Float[Tensor, "N 1 H W"],
        conditioning: Float[Tensor, "N _"] | None,
    ) -> Float[Tensor, "N k"]:
        """The numbers that place the arm at each step.

        With positions they are the condition. Without, they are the condition and its change (z_t
        where there is no condition), where the arm was in the reference frame, and some numbers
        made from g.
        """
        if self.has_positions:
            assert conditioning is not None
            return conditioning[:, : self.condition_size].float()
        known = [] if conditioning is None else [conditioning.float()]
        return torch.cat([*known, moments(hidden.float()), self.from_g(g.float())], dim=1)
