HELP=""
def arguments(p): p.set_defaults(default_seconds=1,default_rounds=1,quick={})
