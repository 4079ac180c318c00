"""What calls of well-known things outside the bundle do to a walk. Importing this package registers them."""

from labgate.flow.models import builtins, containers, files, frameworks, hydra, objects, omegaconf, process

__all__ = ["builtins", "containers", "files", "frameworks", "hydra", "objects", "omegaconf", "process"]
