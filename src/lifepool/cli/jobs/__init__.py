"""``lifepool jobs``: look into a store of jobs, cancel and retry. It needs no server, no pool and no secret."""
