import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [react()],
  worker: { format: 'es' },
  // The development server would copy the library away from its worker.
  optimizeDeps: { exclude: ['mergequant-web'] },
});
