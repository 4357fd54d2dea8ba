import type { Plugin } from 'vite';

/** Makes the library start its worker in a way that other bundlers understand. */
export function libraryWorker(): Plugin;
