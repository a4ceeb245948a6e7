"""Keras on TensorFlow: Sequential, compile, fit on arrays; images with channels last, as TensorFlow wants them."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import _mnist
import keras
import numpy as np
import tensorflow as tf
from keras import layers

args = _mnist.arguments()
tf.config.threading.set_intra_op_parallelism_threads(args.threads)
tf.config.threading.set_inter_op_parallelism_threads(args.threads)
keras.utils.set_random_seed(args.seed)
x, y, test_x, test_y = _mnist.load(args)
if args.model == "mlp":
    model = keras.Sequential([keras.Input((784,)), layers.Dense(128, "relu"), layers.Dense(10)])
else:
    x, test_x = (np.ascontiguousarray(part.transpose(0, 2, 3, 1)) for part in (x, test_x))
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same"), layers.MaxPooling2D(), layers.ReLU(),
            layers.Conv2D(64, 3, padding="same"), layers.MaxPooling2D(), layers.ReLU(),
            layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10),
        ]
    )  # fmt: skip
model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))


class Marks(keras.callbacks.Callback):
    def on_epoch_end(self, *_) -> None:
        clock.mark()


clock = _mnist.Clock()
model.fit(x, y, batch_size=args.batch, epochs=args.epochs, verbose=0, callbacks=[Marks()])
found = model.predict(test_x, batch_size=1000, verbose=0).argmax(1)
_mnist.report(args, clock, float((found == test_y).mean()), int(model.count_params()))
