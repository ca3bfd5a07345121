"""A small learner: what the sandbox's EMR clusters carry out in place of agroimpacts/learner."""
