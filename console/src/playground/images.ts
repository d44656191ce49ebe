export const imageTypes = ["image/png", "image/jpeg", "image/webp", "image/gif"];
const MOST_MEGABYTES = 4;

type Read = { url: string } | { fault: "type" | "size" | "unreadable"; most: number };

/** A picture as a data address. Its kind and size are looked at before it is read. */
export async function readImage(file: File): Promise<Read> {
  if (!imageTypes.includes(file.type)) return { fault: "type", most: MOST_MEGABYTES };
  if (file.size > MOST_MEGABYTES * 1_000_000) return { fault: "size", most: MOST_MEGABYTES };
  return new Promise((tell) => {
    const reader = new FileReader();
    reader.onload = () => tell({ url: String(reader.result) });
    reader.onerror = () => tell({ fault: "unreadable", most: MOST_MEGABYTES });
    reader.readAsDataURL(file);
  });
}
