"""Any weights file -> {name: array}, lazily; and back."""
