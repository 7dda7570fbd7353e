"""Who writes what another feature reads, with everything else frozen?"""
