/** The model's shape, as every room sees it. Parsed from a Hugging Face config.json by `parseHfConfig`. */

/** Llama-3's frequency-dependent RoPE scaling (`rope_type: "llama3"`). */
export interface Llama3RopeScaling {
  readonly type: 'llama3';
  readonly factor: number;
  readonly lowFreqFactor: number;
  readonly highFreqFactor: number;
  readonly originalMaxPositionEmbeddings: number;
}

/** Position interpolation (`rope_type: "linear"`). */
export interface LinearRopeScaling {
  readonly type: 'linear';
  readonly factor: number;
}

export interface LlamaConfig {
  readonly hiddenSize: number; // D
  readonly intermediateSize: number; // F
  readonly numLayers: number;
  readonly numHeads: number; // H
  readonly numKvHeads: number; // Hkv, divides H
  readonly headDim: number; // Dh, even
  readonly vocabSize: number; // V
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling: Llama3RopeScaling | LinearRopeScaling | null;
  readonly tieWordEmbeddings: boolean;
  /** q, k, v and o have a bias (`attention_bias`). */
  readonly attentionBias: boolean;
  /** gate, up and down have a bias (`mlp_bias`). */
  readonly mlpBias: boolean;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
}
