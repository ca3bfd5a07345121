"""One pass over a playbook and all that it imports: structure, modules, names, tags, variables."""
