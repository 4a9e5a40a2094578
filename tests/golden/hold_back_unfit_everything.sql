delete from "new_purchase"."reject" where cause = 'unfit' and key in (select key from "new_purchase"."touched");

insert into "new_purchase"."reject"
select s.key, c.kind, 'unfit', list_aggregate(list_transform(s.found, lambda f: f.reason), 'string_agg', '; '),
       list_transform(s.found, lambda f: f.field), md5(cast(d as varchar)), 0, true, null, now() at time zone 'UTC', now() at time zone 'UTC'
from (
  select "new_purchaseid" as key, list_filter([
    case when "new_channel" is not null and case "new_channel" when 1 then 'Web' when 2 then 'Store' end is null then {'field': 'cusChannel', 'reason': 'cusChannel is a choice without a label'} end,
    case when length(case case "new_channel" when 1 then 'Web' when 2 then 'Store' end when 'Web' then 'W' else case "new_channel" when 1 then 'Web' when 2 then 'Store' end end) > 30 then {'field': 'cusChannel', 'reason': 'cusChannel is longer than 30 characters'} end,
    case when "new_quantity" is not null and case when "new_quantity" = trunc("new_quantity") then try_cast("new_quantity" as bigint) end is null then {'field': 'cusQuantity', 'reason': 'cusQuantity can''t become an integer'} end,
    case when case when "new_quantity" = trunc("new_quantity") then try_cast("new_quantity" as bigint) end not between -2147483648 and 2147483647 then {'field': 'cusQuantity', 'reason': 'cusQuantity is not between -2147483648 and 2147483647'} end,
    case when length("new_contactid") > 36 then {'field': 'cusContactId', 'reason': 'cusContactId is longer than 36 characters'} end
  ], lambda f: f is not null) as found
  from "new_purchase"."snapshot"
  where "new_purchaseid" in (select key from "new_purchase"."change_set" where kind <> 'delete')
    and "new_purchaseid" in (select key from "new_purchase"."touched")
) as s
join "new_purchase"."change_set" as c on c.key = s.key
join "new_purchase"."desired" as d on d."cusD365id" = s.key
where len(s.found) > 0;
