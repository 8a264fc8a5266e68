"""A paragraph on the method for a paper, with the settings of a configuration filled in."""

from data import nsd
from evaluation.pictures.catalogue import CATALOGUE
from minddiffuser.config import Config


def methods(config: Config) -> str:
    """Describe in sentences what was done, in the order in which it was done."""
    experiment = config.experiment
    data, decoding, sampler, guidance = experiment.data, experiment.decoding, experiment.sampler, experiment.guidance
    structural, evaluation, n_subjects = experiment.structural, experiment.evaluation, len(experiment.subjects)
    simulated = "a simulation of the " if experiment.miniature is not None else "the "
    scaled = "training" if decoding.test_scaling == "train" else "test"
    layers = ", ".join(map(str, structural.layers))
    voxels = sorted(set(decoding.n_voxels_structural))
    refined = "all test images" if guidance.n_images is None else f"the first {guidance.n_images} test images"
    refines = "z and c" if guidance.optimise == "z_and_c" else "z"
    weights = ", ".join(f"{weight:g}" for weight in guidance.layer_weights)
    loss = {
        "weighted": f"the mean squared distances, each layer by its weight ({weights}) over the norm of its target,",
        "sum": "the sum of the squared distances over layers",
        "variance_restored": "the mean over layers of the squared distances in units of each feature's deviation",
    }[guidance.loss]
    noise = "fresh noise in each iteration" if guidance.noise == "fresh" else "the noise of stage 1"
    result = {"lowest_loss": "the iteration of the lowest loss", "last": "the last iteration"}[guidance.result]
    rate = f"{guidance.learning_rate:g}, " + (
        "with a cosine schedule" if guidance.schedule == "cosine" else f"times {guidance.decay:g} in each iteration"
    )
    adam = f"{guidance.n_iterations} iterations of Adam (learning rate {rate})"
    last = (
        f" (gradients through the U-Net in its last {guidance.gradient_steps} steps)" if guidance.gradient_steps else ""
    )
    repeats = f", each step taken {guidance.repeats} times" if guidance.repeats > 1 else ""
    way = {
        "descent": f"{refines} of {refined} were refined by {adam} through the whole sampler{last}, with {noise}, and "
        f"the result is that of {result}",
        "in_sampler": f"for {refined}, the noise estimates of one pass of the sampler were steered by the gradient of "
        f"the loss of the predicted clean picture (relative size {guidance.steering:g}{repeats})",
        "before_sampler": f"z of {refined} was refined by {adam} through the decoder of the autoencoder alone, and "
        "then sampled as in stage 1",
    }[guidance.method]
    steps = f"DDIM steps of {experiment.models.stable_diffusion}, and its last {sampler.denoise_steps} steps were run"
    if sampler.solver == "dpm_solver_pp_2m":
        n_steps = sampler.solver_steps or sampler.denoise_steps
        steps = (
            f"steps of {experiment.models.stable_diffusion}, and its last {sampler.denoise_steps} were run in "
            f"{n_steps} steps of DPM-Solver++ (2M)"
        )
    fewer = any(nsd.n_sessions(subject, data.sessions) < data.sessions for subject in experiment.subjects)
    sessions = f"the first {data.sessions} sessions" + (", or all where a subject has fewer," if fewer else "")
    sentences = [
        f"Data were those of {simulated}{CATALOGUE.title} ({n_subjects} subject{'s' if n_subjects != 1 else ''}: "
        f"{', '.join(experiment.subjects)}).",
        f"Betas ({data.betas}, {data.space}) of {sessions} were z-scored in each session and "
        f"averaged over the repetitions of an image; voxels were those of {len(data.rois)} regions "
        f"({', '.join(data.roi_names)}).",
        "The images that all subjects saw were the test images, and the others the training images.",
        f"Three targets were decoded: c, the embedding of up to {experiment.semantic.n_captions} captions by the text "
        f"encoder of Stable Diffusion ({experiment.semantic.max_length} tokens, mean over captions); z, the "
        f"{'mean' if experiment.detail.posterior == 'mean' else 'sample'} of the posterior of its autoencoder at "
        f"{experiment.detail.image_size} pixels; and Z_CLIP, outputs of CLIP's layers {layers} "
        f"({experiment.models.clip}), of which the {100 * experiment.units.keep:g} % of units with the highest "
        "cross-validated correlation were kept.",
        f"Each output was predicted by ridge regression (penalty {decoding.alpha:g}) on the voxels that correlate most "
        f"with it in the training images: {decoding.n_voxels_semantic} for c, {decoding.n_voxels_detail} for z and "
        f"{' or '.join(map(str, voxels))} for Z_CLIP.",
        f"Test voxels were standardised by statistics of the {scaled} images.",
        f"Stage 1: the decoded z was noised to step {sampler.noise_index} (counted from 0) of {sampler.n_steps} "
        f"{steps} from the decoded c with a guidance scale of {sampler.guidance_scale:g}.",
        f"Stage 2: {way}; the loss was {loss} between CLIP features of the picture and the decoded Z_CLIP.",
    ]
    if decoding.restore_variance == "train":
        sentences.append(
            "For the system called restored, standardised predictions of z and c were divided by the deviation of "
            f"{decoding.restore_folds}-fold cross-validated predictions of the training images "
            f"(to the power {decoding.restore_strength:g}) before stage 1."
        )
    sentences.append(
        f"Pictures were scored at {evaluation.image_size} pixels (SSIM, PixCorr) and by a CLIP that did not guide "
        f"stage 2 ({experiment.models.scoring_clip}). Intervals are 95 % percentile intervals of "
        f"{evaluation.n_bootstrap:,} bootstrap resamples of images; differences were tested on the same images by "
        f"{evaluation.n_flips:,} random flips of signs, corrected by Holm's method. The seed was {experiment.seed}."
    )
    return " ".join(sentences)
