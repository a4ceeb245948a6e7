"""Gradient-boosted trees with their defaults: fit on TRAIN.csv, predict TEST.csv, write one number a row.

    python boosted.py hist|xgboost|lightgbm --train a.csv --test b.csv --target y --task classify --output out.txt

Words are pandas categories, which all three take as they are; missing cells stay missing. HistGradientBoosting
takes at most 255 categories a column, so columns with more (names) are left out for it.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import pandas as pd

parser = argparse.ArgumentParser()
parser.add_argument("kind", choices=["hist", "xgboost", "lightgbm"])
for name in ("train", "test", "target", "output"):
    parser.add_argument(f"--{name}", required=True)
parser.add_argument("--task", choices=["classify", "regress"], required=True)
parser.add_argument("--positive", help="the class whose probability is written")
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

read = {"keep_default_na": False, "na_values": [""]}
train, test = pd.read_csv(args.train, **read), pd.read_csv(args.test, **read)
y = train.pop(args.target)
y = y.to_numpy(float) if args.task == "regress" else (y.astype(str) == args.positive).to_numpy(int)
test = test[train.columns]
for column in train.columns:
    if not pd.api.types.is_numeric_dtype(train[column]):
        kinds = pd.Index(train[column].dropna().astype(str).unique())
        if args.kind == "hist" and len(kinds) > 255:
            train, test = train.drop(columns=column), test.drop(columns=column)
            continue
        # Unknown words of the test rows become missing.
        train[column], test[column] = (
            pd.Categorical(part[column].astype("string"), kinds) for part in (train, test)
        )

started = time.perf_counter()
classify = args.task == "classify"
if args.kind == "hist":
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    model = (HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor)(
        random_state=args.seed
    )
elif args.kind == "xgboost":
    import xgboost

    kind = xgboost.XGBClassifier if classify else xgboost.XGBRegressor
    model = kind(enable_categorical=True, n_jobs=args.threads, random_state=args.seed)
else:
    import lightgbm

    kind = lightgbm.LGBMClassifier if classify else lightgbm.LGBMRegressor
    model = kind(n_jobs=args.threads, random_state=args.seed, verbose=-1)
model.fit(train, y)
answer = model.predict_proba(test)[:, 1] if classify else model.predict(test)
seconds = time.perf_counter() - started
np.savetxt(args.output, answer)
print(json.dumps({"seconds": seconds, "columns": len(train.columns)}))
