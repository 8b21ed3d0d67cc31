import { type SubscriptionRequest, subscriptionRequest } from "@isthmus/protocol";

/** What `isthmus subscribe` sends. */
export function wish(service: string, changes: Partial<SubscriptionRequest> = {}): SubscriptionRequest {
  return subscriptionRequest.parse({ service, ...changes });
}
