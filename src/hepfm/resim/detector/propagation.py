"""From the production vertex to the calorimeter: straight lines and helices in a solenoid."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hepfm.resim.detector.compiled import Flags, Floats, as_floats, compiled, inlined
from hepfm.resim.detector.description import Solenoid
from hepfm.resim.particles import Particles

# pt of a singly charged particle on a circle of 1 mm in 1 T, in GeV: the speed of light in m/s, times 1e-12.
_PT_PER_TESLA_MM = 2.99792458e-4
# Softer particles (in GeV) are not carried anywhere. Source: Delphes, ParticlePropagator, pt^2 < 1e-9.
_PT2_MIN = 1e-9
# Steps ahead of a particle that hardly moves along the beam: if it circles, some point of its circle counts.
_FOREVER = 1e99

Point: TypeAlias = tuple[float, float, float]
Columns: TypeAlias = tuple[Floats, Floats, Floats]


@dataclass(frozen=True)
class Propagated:
    """Where particles meet the calorimeter, and how charged ones pass the beam axis; arrays of shape (P,).

    Attributes:
        inside: false for particles produced outside the tracking volume or too soft to carry: these are lost.
        eta: pseudorapidity of the point on the surface, seen from the origin; NaN where lost.
        phi: its azimuth; NaN where lost.
        d0: impact parameter (x py - y px) / pt at closest approach to the beam axis, in mm; 0 for neutrals.
            The sign is Delphes' (and JetClass'), opposite to the usual one of CMS.
        dz: z at closest approach, in mm; 0 for neutrals.
        ux: cosine of the azimuth of the momentum at closest approach; 0 for neutrals.
        uy: its sine; 0 for neutrals.
    """

    inside: Flags
    eta: Floats
    phi: Floats
    d0: Floats
    dz: Floats
    ux: Floats
    uy: Floats


@inlined
def pseudorapidity(along: float, across: float) -> float:
    """Pseudorapidity of a direction, from its parts along the beam axis (signed) and across it."""
    slope = abs(along) / across
    return math.copysign(math.log(slope + math.sqrt(1.0 + slope * slope)), along)


@inlined
def _steps_to_endcap(z: float, step: float, half_length: float) -> float:
    """Count the steps of `step` along z to the endcap a particle flies to; endless if it flies to none."""
    if step == 0.0:
        return _FOREVER
    return min((math.copysign(half_length, step) - z) / step, _FOREVER)


@inlined
def straight_line(momentum: Point, vertex: Point, radius: float, half_length: float) -> Point:
    """Find the point, in mm, where a neutral particle leaves the cylinder."""
    px, py, pz = momentum
    x, y, z = vertex
    pt2 = px * px + py * py
    across = px * y - py * x
    to_barrel = (math.sqrt(max(pt2 * radius * radius - across * across, 0.0)) - px * x - py * y) / pt2
    t = min(to_barrel, _steps_to_endcap(z, pz, half_length))
    return x + px * t, y + py * t, z + pz * t


@inlined
def helix(
    momentum: Point, vertex: Point, bend: float, sign: float, radius: float, half_length: float
) -> tuple[Point, Point, float, float]:
    """Follow a charged particle back to the beam axis and on to the surface of the cylinder.

    The path is measured by the angle turned since the vertex, positive forward in time.

    Args:
        momentum: (px, py, pz) at the vertex, in GeV.
        vertex: (x, y, z), in mm.
        bend: radius of the helix, in mm.
        sign: 1 or -1, sign of the charge; positive particles turn clockwise.
        radius: of the cylinder, in mm.
        half_length: of the cylinder, in mm.

    Returns:
        The point (x, y, z), in mm, where it leaves the cylinder; z of its closest approach to the beam axis
        and, of the momentum there, direction (ux, uy) in the transverse plane, as (ux, uy, z); the impact
        parameter d0, in mm; and the angle turned on the way.
    """
    x, y, z = vertex
    pt = math.sqrt(momentum[0] * momentum[0] + momentum[1] * momentum[1])
    ux, uy = momentum[0] / pt, momentum[1] / pt
    z_step = bend * momentum[2] / pt
    x_centre, y_centre = x + sign * bend * uy, y - sign * bend * ux
    to_centre = math.sqrt(x_centre * x_centre + y_centre * y_centre)

    # The circle crosses the line from the beam axis to its centre twice: the crossing within a quarter turn of
    # the vertex counts. There the momentum is perpendicular to that line.
    ax, ay = ux, uy
    if to_centre > 0.0:
        ax, ay = y_centre / to_centre, -x_centre / to_centre
        if ax * ux + ay * uy < 0.0:
            ax, ay = -ax, -ay
    to_axis = -sign * math.atan2(ux * ay - uy * ax, ux * ax + uy * ay)
    d0 = (x_centre - sign * bend * ay) * ay - (y_centre + sign * bend * ax) * ax

    # On to the endcap, unless the barrel comes first: as far behind the axis as `half_arc`.
    turned = _steps_to_endcap(z, z_step, half_length)
    ex, ey = 0.0, 0.0
    in_barrel = False
    if to_centre > 0.0 and to_centre + bend >= radius:
        cosine = (bend * bend + to_centre * to_centre - radius * radius) / (2.0 * bend * to_centre)
        cosine = min(max(cosine, -1.0), 1.0)
        half_arc = math.acos(cosine)
        if to_axis + half_arc < turned:
            in_barrel = True
            turned = to_axis + half_arc
            sine = sign * math.sqrt(1.0 - cosine * cosine)
            ex, ey = ax * cosine + ay * sine, ay * cosine - ax * sine
    if not in_barrel:
        cosine, sine = math.cos(turned), sign * math.sin(turned)
        ex, ey = ux * cosine + uy * sine, uy * cosine - ux * sine
    end = (x_centre - sign * bend * ey, y_centre + sign * bend * ex, z + z_step * turned)
    return end, (ax, ay, z + z_step * to_axis), d0, turned


@compiled
def _propagate(
    charge: Floats,
    momenta: Columns,
    vertices: Columns,
    cylinder: tuple[float, float, float],
) -> tuple[Flags, Floats, Floats, Floats, Floats, Floats, Floats]:
    """Do the work of `propagate`."""
    radius, half_length, field = cylinder
    n = len(charge)
    inside = np.zeros(n, np.bool_)
    eta, phi = np.full(n, np.nan), np.full(n, np.nan)
    d0, dz, ux, uy = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for i in range(n):
        momentum = (momenta[0][i], momenta[1][i], momenta[2][i])
        vertex = (vertices[0][i], vertices[1][i], vertices[2][i])
        pt2 = momentum[0] * momentum[0] + momentum[1] * momentum[1]
        if pt2 < _PT2_MIN:
            continue
        rho = math.sqrt(vertex[0] * vertex[0] + vertex[1] * vertex[1])
        inside[i] = rho <= radius and abs(vertex[2]) <= half_length
        if charge[i] == 0.0:
            end = straight_line(momentum, vertex, radius, half_length)
        else:
            bend = math.sqrt(pt2) / (abs(charge[i]) * field * _PT_PER_TESLA_MM)
            sign = math.copysign(1.0, charge[i])
            end, (ux[i], uy[i], dz[i]), d0[i], _ = helix(momentum, vertex, bend, sign, radius, half_length)
        if inside[i]:
            x, y, z = end
            eta[i] = pseudorapidity(z, math.sqrt(x * x + y * y))
            phi[i] = math.atan2(y, x)
    return inside, eta, phi, d0, dz, ux, uy


def propagate(particles: Particles, solenoid: Solenoid) -> Propagated:
    """Carry particles from their production vertex to the calorimeter surface.

    Args:
        particles: P stable particles.
        solenoid: the cylinder they leave and the field in it.

    Returns:
        Positions on the surface and closest approaches to the beam axis, of shape (P,).

    Source: Delphes, ParticlePropagator; see docs/physics-detector.md#propagation.
    """
    p = particles
    return Propagated(
        *_propagate(
            as_floats(p.charge),
            tuple(as_floats(a) for a in (p.px, p.py, p.pz)),
            tuple(as_floats(a) for a in (p.x, p.y, p.z)),
            (solenoid.radius * 1e3, solenoid.half_length * 1e3, solenoid.field),
        )
    )
