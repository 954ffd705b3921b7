"""Where the simulated engine learns which GPU it runs on and how fast that GPU is clocked now."""

from collections.abc import Mapping
from dataclasses import dataclass

from phasewatt.model.catalogue import A100_40_PCIE, Gpu, find_gpu


@dataclass(frozen=True, slots=True)
class SimulatedGpu:
    """The GPU product and its SM clock in GHz; today both are fixed when the process starts."""

    product: Gpu
    clock_ghz: float

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "SimulatedGpu":
        """Read PHASEWATT_SIM_GPU (product name) and PHASEWATT_SIM_CLOCK_GHZ (default: the highest clock).

        Raises:
            LookupError: the product is not in the catalogue.
            ValueError: the clock is not a number, or outside the product's range.
        """
        product = find_gpu(environ.get("PHASEWATT_SIM_GPU", A100_40_PCIE.product))
        clock_ghz = float(environ.get("PHASEWATT_SIM_CLOCK_GHZ", product.clock_max_ghz))
        if not product.clock_min_ghz <= clock_ghz <= product.clock_max_ghz:
            raise ValueError(
                f"PHASEWATT_SIM_CLOCK_GHZ={clock_ghz} is outside {product.clock_min_ghz}-{product.clock_max_ghz} GHz"
                f" of {product.product}"
            )
        return cls(product, clock_ghz)

    def present_clock_ghz(self) -> float:
        """The SM clock of this moment, in GHz; asked before every step."""
        return self.clock_ghz
