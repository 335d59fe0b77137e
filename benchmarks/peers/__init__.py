"""Who is measured. Each stands behind `base.Peer`; one that is not installed is left out, and that is said."""
