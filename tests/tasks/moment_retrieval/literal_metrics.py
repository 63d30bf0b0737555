"""The metrics of QVHighlights one query, one window and one clip at a time, straight from their definitions: the judge.

    literal_evaluate(submission, ground_truth)["full"]["MR-mAP"]["average"]    # percent, not rounded

Expects rows without mistakes.
"""

THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
LENGTHS = {"short": (0, 10), "middle": (10, 30), "long": (30, 150)}
RATINGS = {"Fair": 2, "Good": 3, "VeryGood": 4}


def literal_evaluate(submission, ground_truth, clip_length=2.0, max_windows=10, lengths=LENGTHS):
    predictions = {row["qid"]: row for row in submission}
    metrics = {}
    if "saliency_scores" in ground_truth[0]:
        for name, least in RATINGS.items():
            metrics[f"HL-min-{name}"] = highlights(predictions, ground_truth, least, clip_length)
    for name in sorted([*lengths, "full"]):
        truth = {row["qid"]: row["relevant_windows"] for row in ground_truth}
        if name != "full":
            above, up_to = lengths[name]
            truth = {qid: [w for w in windows if above < w[1] - w[0] <= up_to] for qid, windows in truth.items()}
            truth = {qid: windows for qid, windows in truth.items() if windows}
        if truth:
            metrics[name] = moments(predictions, truth, max_windows)
    return {"brief": brief(metrics)} | metrics


def moments(predictions, truth, max_windows):
    precisions, recalls = {}, {}
    for threshold in THRESHOLDS:
        precision, hits = [], []
        for qid, windows in truth.items():
            listed = predictions[qid]["pred_relevant_windows"]
            precision.append(average_precision(listed[:max_windows], windows, threshold))
            hits.append(1 if listed and first_window_overlap(listed[0], windows) >= threshold else 0)
        precisions[str(threshold)], recalls[str(threshold)] = 100 * mean(precision), 100 * mean(hits)
    precisions["average"] = mean(precisions.values())
    return {"MR-mAP": precisions, "MR-R1": recalls}


def first_window_overlap(window, truth):
    """With the true window of the highest IoU; intersection over the interval that spans both."""
    best = truth[0]
    for candidate in truth:
        if overlap(window, candidate) > overlap(window, best):
            best = candidate
    span = max(window[1], best[1]) - min(window[0], best[0])
    return common(window, best) / span if span else 0.0


def average_precision(listed, truth, threshold):
    """Area under the precision over recall, precision being the best at this recall or a higher one."""
    ranked = sorted(listed, key=lambda window: -window[2])  # stable
    free = list(range(len(truth)))
    curve = []  # recall, precision after each window
    found = 0
    for rank, window in enumerate(ranked, start=1):
        reached = [i for i in free if overlap(window, truth[i]) >= threshold]
        if reached:
            best = max(overlap(window, truth[i]) for i in reached)
            free.remove(max(i for i in reached if overlap(window, truth[i]) == best))
            found += 1
        curve.append((found / len(truth), found / rank))
    area, before = 0.0, 0.0
    for recall, _ in curve:
        if recall > before:
            area += (recall - before) * max(p for r, p in curve if r >= recall)
            before = recall
    return area


def overlap(window, truth):
    union = (window[1] - window[0]) + (truth[1] - truth[0]) - common(window, truth)
    return common(window, truth) / union if union else 0.0


def common(window, truth):
    return max(0.0, min(window[1], truth[1]) - max(window[0], truth[0]))


def highlights(predictions, ground_truth, least, clip_length):
    precisions, hits = [], []
    for row in ground_truth:
        clips = int(row["duration"] / clip_length)
        ratings = dict(zip(row["relevant_clip_ids"], row["saliency_scores"], strict=True))
        scores = list(predictions[row["qid"]]["pred_saliency_scores"])
        top = scores.index(max(scores))
        hits.append(1 if any(rating >= least for rating in ratings.get(top, [])) else 0)
        scores = (scores + [0.0] * clips)[:clips]
        for annotator in range(annotators(ground_truth)):
            positive = {clip for clip, rating in ratings.items() if rating[annotator] >= least}
            precisions.append(ranking_precision(scores, positive))
    return {"HL-mAP": 100 * mean(precisions), "HL-Hit1": 100 * mean(hits)}


def annotators(ground_truth):
    return next((len(rating) for row in ground_truth for rating in row["saliency_scores"]), 1)


def ranking_precision(scores, positive):
    """Mean over the recalls that some score threshold gives: the best precision at this recall or a higher one."""
    curve = []
    for threshold in set(scores):
        chosen = [clip for clip, score in enumerate(scores) if score >= threshold]
        found = len(positive.intersection(chosen))
        curve.append((found, found / len(chosen)))
    recalls = {found for found, _ in curve if found > 0}
    return mean([max(p for f, p in curve if f >= found) for found in recalls]) if recalls else 0.0


def brief(metrics):
    figures = {f"MR-full-R1@{t}": metrics["full"]["MR-R1"][t] for t in ("0.5", "0.7")}
    figures |= {f"MR-full-mAP@{t}": metrics["full"]["MR-mAP"][t] for t in ("0.5", "0.75")}
    figures |= {f"MR-{name}-mAP": metrics[name]["MR-mAP"]["average"] for name in metrics if "MR-mAP" in metrics[name]}
    figures = {name: figures[name] for name in sorted(figures)}
    for name in ("HL-min-Fair", "HL-min-Good", "HL-min-VeryGood"):
        if name in metrics:
            figures |= {f"{name}-mAP": metrics[name]["HL-mAP"], f"{name}-Hit1": metrics[name]["HL-Hit1"]}
    return figures


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def truth_row(qid=1, **changes):
    """An annotation with one moment and four relevant clips."""
    row = {"qid": qid, "vid": f"video{qid}", "duration": 20, "relevant_windows": [[0, 8]]}
    row |= {"relevant_clip_ids": [0, 1, 2, 3], "saliency_scores": [[4, 3, 2]] * 4}
    return row | changes
