/** Test models; they are shared with the self-test. */
export * from './reference-model';
