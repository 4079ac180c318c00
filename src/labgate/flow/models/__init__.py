"""What calls of well-known things outside the bundle do to a walk. Importing this package registers them."""

from labgate.flow.models import files, frameworks, hydra, omegaconf, process, python

__all__ = ["files", "frameworks", "hydra", "omegaconf", "process", "python"]
