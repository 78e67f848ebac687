r"""Shower a Les Houches file with a Pythia of its own and write HepMC 3: an external generator for `hepfm-data`.

usage: python pythia_hepmc.py LHE HEPMC SEED N_EVENTS [--set "Name = value"]... [--drop K]

Any program that takes a Les Houches file and writes a HepMC file can stand in its place:

    hepfm-data resim --external "python examples/external/pythia_hepmc.py {lhe} {hepmc} {seed} {n_events}" \
        --variation-name my-pythia

It needs pythia8mc and pyhepmc, and nothing of hepfm. `--drop K` leaves out every K-th event, as a generator
does that rejects events; the numbers of the events count those that are written.
"""

import argparse

import pyhepmc
import pythia8mc


def main() -> None:
    parser = argparse.ArgumentParser(description="Shower a Les Houches file and write HepMC 3.")
    parser.add_argument("lhe")
    parser.add_argument("hepmc", help="compressed if it ends with .gz, .zst, .xz or .bz2")
    parser.add_argument("seed", type=int)
    parser.add_argument("n_events", type=int)
    parser.add_argument("--set", action="append", default=[], help="a Pythia setting, 'Name = value'")
    parser.add_argument("--drop", type=int, default=0, help="leave out every K-th event")
    arguments = parser.parse_args()
    pythia = start(arguments.lhe, arguments.seed, arguments.set)
    run = pyhepmc.GenRunInfo()
    run.weight_names = ["nominal"]
    n_written = 0
    with pyhepmc.open(arguments.hepmc, "w") as file:
        for place in range(arguments.n_events):
            if not pythia.next():
                continue  # Pythia has gone on to the next event of the file
            if arguments.drop and place % arguments.drop == arguments.drop - 1:
                continue
            file.write(to_hepmc(pythia, run, n_written))
            n_written += 1


def start(lhe: str, seed: int, settings: list[str]) -> pythia8mc.Pythia:
    """A Pythia that reads the file, with particles of c·tau above 10 mm stable as in hepfm."""
    pythia = pythia8mc.Pythia("", False)
    lines = [
        *("Print:quiet = on", "Beams:frameType = 4", f"Beams:LHEF = {lhe}"),
        *("Random:setSeed = on", f"Random:seed = {1 + seed % 900_000_000}"),
        *("ParticleDecays:limitTau0 = on", "ParticleDecays:tau0Max = 10."),
        *settings,
    ]
    for line in lines:
        if not pythia.readString(line):
            message = f"Pythia refuses the setting '{line}'"
            raise SystemExit(message)
    if not pythia.init():
        message = f"Pythia cannot start on {lhe}"
        raise SystemExit(message)
    return pythia


def to_hepmc(pythia: pythia8mc.Pythia, run: pyhepmc.GenRunInfo, number: int) -> pyhepmc.GenEvent:
    """The whole record: hard process (status 21 to 29), showers, hadrons and their decays."""
    event = pyhepmc.GenEvent(pyhepmc.Units.GEV, pyhepmc.Units.MM)
    event.run_info = run
    event.event_number = number
    add_particles(event, list(pythia.event))
    info = pythia.infoPython()
    event.weights = [info.weight()]
    section = pyhepmc.GenCrossSection()
    section.set_cross_section(1e9 * info.sigmaGen(), 1e9 * info.sigmaErr())  # mb to pb
    event.cross_section = section
    return event


def add_particles(event: pyhepmc.GenEvent, record: list[pythia8mc.Particle]) -> None:
    """Add the particles of Pythia's record, linked by vertices. Entry 0 is no particle, 1 and 2 are the beams."""
    particles = [pyhepmc.GenParticle((p.px(), p.py(), p.pz(), p.e()), p.id(), p.statusHepMC()) for p in record]
    ends: dict[int, pyhepmc.GenVertex] = {}  # by the particle that goes in
    for p, particle in zip(record[1:], particles[1:], strict=True):
        particle.generated_mass = p.m()
        mothers = [mother for mother in p.motherList() if mother > 0]
        if not mothers:
            continue
        if mothers[0] not in ends:
            vertex = pyhepmc.GenVertex((p.xProd(), p.yProd(), p.zProd(), p.tProd()))
            for mother in mothers:
                if mother not in ends:
                    vertex.add_particle_in(particles[mother])
                    ends[mother] = vertex
        ends[mothers[0]].add_particle_out(particle)
    # As a tree, so that mothers are written before daughters: HepMC reads no other order.
    event.add_tree(particles[1:3])


if __name__ == "__main__":
    main()
