"""The line that a frame follows. Only this folder knows all six stages.

`file` is what a person wrote, `model_plan` what it says of one model; `open_model`, `loaded_model` and
`model_set` are models at work; `link` is one source feeding one model; `pipeline` is the line itself.
`progress` says which of its parts hang, `overview` and `report` how it is.
"""
