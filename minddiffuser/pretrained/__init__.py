"""The only place that opens a model, real or miniature.

`stable_diffusion` (with `checkpoint`, its original file), `clip`, `scoring`, `classifiers`, `pooled` and `icgan` open
models by the routines of `files`. Only `downloading` uses the network: a model that is not on the disk is an error that
says how to get it. All models are returned frozen, in evaluation mode, in float32.

No weight is random and no input is guessed: a model is opened only where every weight comes from a file, where the
file has no weights that the model does not know (but for names that are said to be spare, beside each opener), and
where the settings that come with it are there. All else is a MissingModelError of one line that names the file. Only
`random_clip` and `random_stable_diffusion` make random weights, for tests and timings.

The model libraries are imported when a model is opened: that takes seconds, which a script that finds its work
done need not spend.
"""
