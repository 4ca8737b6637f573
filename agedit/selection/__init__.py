"""S4: which sub-model keeps a waiting budget on this device.

`times`: what was timed of one candidate. `budget`: what a budget promises, and which one a candidate needs.
`cost_model`: times of candidates that were not timed, and answers without a run.
`selector`: the loop of S41-S44; knows times and budgets only.
`tuner`: runs it on this device with real edits; `fair_lock` lets visitors' edits in between.
`drift`: notices that the device has got slower. `profiles`: the times as files, this device's and others'.
"""
