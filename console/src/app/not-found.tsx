/** Next.js asks for one without a language. The gateway never sends it: unknown pages are `[locale]/missing`. */
export default function NotFound() {
  return (
    <html lang="en">
      <body>404</body>
    </html>
  );
}
