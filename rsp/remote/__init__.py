"""The remote target: what users hold.

Contents: Target, the thin composition of what stands still (`rsp.inferior`), what lets it run
(`rsp.run`) and the session with its stub (`rsp.session`).
"""
