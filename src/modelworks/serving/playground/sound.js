// Sound: what the microphone hears, and files of kinds that the server may not read, as WAV (16 bits, one channel).

import { Trouble } from "./server.js";

const AS_THEY_ARE = /^audio\/(x-)?(wav|wave|vnd\.wave|flac)$/;

// A file as the server reads it; other kinds are decoded here, at the model's own rate.
export async function readable(blob, rate) {
  if (AS_THEY_ARE.test(blob.type)) return blob;
  const context = new OfflineAudioContext(1, 1, rate || 16000);
  let sound;
  try {
    sound = await context.decodeAudioData(await blob.arrayBuffer());
  } catch {
    throw new Trouble("unreadSound");
  }
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    sound.getChannelData(channel).forEach((value, step) => { mono[step] += value / sound.numberOfChannels; });
  }
  return wav(mono, sound.sampleRate);
}

// The microphone, until stop() gives what it heard.
export async function record() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw new Trouble("noMicrophone", { reason: error.name || String(error) });
  }
  const recorder = new MediaRecorder(stream);
  const parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.start();
  return () => new Promise((resolve) => {
    recorder.addEventListener("stop", () => {
      stream.getTracks().forEach((track) => track.stop());
      resolve(new Blob(parts, { type: recorder.mimeType }));
    });
    recorder.stop();
  });
}

function wav(samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, value) => [...value].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((value, step) => {
    view.setInt16(44 + 2 * step, Math.round(Math.max(-1, Math.min(1, value)) * 32767), true);
  });
  return new Blob([view], { type: "audio/wav" });
}
